"""Between an MCP client and its server: records, guards, or answers from recordings.

Messages are read as JSON-RPC and nothing more, so that old and new versions of the protocol,
and servers in any language, pass alike.
"""
