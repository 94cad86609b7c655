"""Opens TLS with HOST through the proxy as the strictest Python does: trust.py PROXY_HOST PROXY_PORT TOKEN CA HOST"""

import base64
import socket
import ssl
import sys

proxy, port, token, ca, host = sys.argv[1:]
tcp = socket.create_connection((proxy, int(port)), timeout=20)
credentials = base64.b64encode(f"x:{token}".encode()).decode()
tcp.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\nProxy-Authorization: Basic {credentials}\r\n\r\n".encode())
head = b""
while not head.endswith(b"\r\n\r\n"):
    head += tcp.recv(1)
assert head.startswith(b"HTTP/1.1 200"), head
context = ssl.create_default_context(cafile=ca)
context.verify_flags |= ssl.VERIFY_X509_STRICT
with context.wrap_socket(tcp, server_hostname=host) as tls:
    print("accepted", tls.version())
