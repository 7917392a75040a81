-- Summaries of the transactions of every stored block, siblings included. Value is wei as 32 bytes big-endian, so that
-- byte order is numeric order. Gas used, status and contract are NULL when no receipt could be had.

-- +goose Up
CREATE TABLE IF NOT EXISTS transactions (
  id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  chain      BIGINT UNSIGNED NOT NULL,
  block      CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  hash       CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  number     BIGINT UNSIGNED NOT NULL,
  tx_index   INT UNSIGNED NOT NULL,
  sender     CHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  recipient  CHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  value      BINARY(32) NOT NULL,
  gas_used   BIGINT UNSIGNED NULL,
  tx_status  TINYINT UNSIGNED NULL,
  contract   CHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  UNIQUE KEY transactions_block_hash (block, hash),
  KEY transactions_hash (hash),
  KEY transactions_sender (chain, sender, number, tx_index),
  KEY transactions_recipient (chain, recipient, number, tx_index),
  KEY transactions_contract (chain, contract)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
