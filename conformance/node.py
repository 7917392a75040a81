"""A node that has a few blocks and answers JSON-RPC about them truthfully."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from conformance.chain import Block


def _answer(blocks: Sequence[Block], method: str, params: list[Any]) -> Any:
    tip = blocks[-1]
    match method:
        case "eth_chainId":
            return hex(tip.chain)
        case "net_version":
            return str(tip.chain)
        case "eth_blockNumber":
            return hex(tip.number)
        case "eth_syncing":
            return False
        case "net_peerCount":
            return "0x3"
        case "eth_getBlockByHash" | "eth_getBlockByNumber" | "eth_getBlockReceipts":
            found = [b for b in blocks if params[0] in (b.hash, hex(b.number))]
            tags = {"latest": tip, "pending": tip, "earliest": blocks[0], "safe": blocks[0], "finalized": blocks[0]}
            block = tags.get(str(params[0])) or (found[0] if found else None)
            if block is None:
                return None
            return [] if method == "eth_getBlockReceipts" else block.json()
    return KeyError


def _reply(blocks: Sequence[Block], call: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"jsonrpc": "2.0", "id": call.get("id")}
    result = _answer(blocks, call.get("method", ""), call.get("params") or [])
    if result is KeyError:
        return out | {"error": {"code": -32601, "message": "no such method"}}
    return out | {"result": result}


@contextlib.contextmanager
def node(blocks: Sequence[Block]) -> Iterator[str]:
    """Serve the blocks and yield the node's URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply: Any = [_reply(blocks, c) for c in call] if isinstance(call, list) else _reply(blocks, call)
            body = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing: programs under test are killed in the middle of calls."""

    http = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()
