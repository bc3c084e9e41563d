#!/bin/bash
# Succeeds when the service in this container is ready, for its health check: the image has no HTTP client.
set -eu
exec 3<>/dev/tcp/127.0.0.1/"${1:-9090}"
printf 'GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r _ status _ <&3
[ "$status" = 200 ]
