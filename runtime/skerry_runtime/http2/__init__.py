"""HTTP/2 without a socket: bytes in, events out (RFC 9113), and the fields of HPACK (RFC 7541)."""
