package schema

import "embed"

// Migrations holds the numbered SQL files, forward only, one folder per dialect: migrations/mysql (MySQL 8, MariaDB
// 10.6 and later) and migrations/sqlite. Their comments follow the goose format.
//
//go:embed migrations/*/*.sql
var Migrations embed.FS
