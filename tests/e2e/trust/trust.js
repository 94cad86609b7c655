// Opens TLS with HOST through the proxy as Node does: trust.js PROXY_HOST PROXY_PORT TOKEN CA HOST
"use strict";
const fs = require("fs");
const net = require("net");
const tls = require("tls");

const [proxy, port, token, ca, host] = process.argv.slice(2);
const tcp = net.connect(Number(port), proxy, () => {
  const credentials = Buffer.from(`x:${token}`).toString("base64");
  tcp.write(`CONNECT ${host}:443 HTTP/1.1\r\nHost: ${host}:443\r\nProxy-Authorization: Basic ${credentials}\r\n\r\n`);
});
tcp.once("data", (head) => {
  if (!head.toString().startsWith("HTTP/1.1 200")) throw new Error(head.toString());
  const servername = net.isIP(host) ? "" : host;
  const socket = tls.connect({ socket: tcp, host, servername, ca: fs.readFileSync(ca) }, () => {
    console.log("accepted", socket.getProtocol());
    socket.end();
  });
});
