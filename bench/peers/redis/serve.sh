#!/bin/sh
# serve.sh ADDRESS: redis-server that keeps nothing on disk.
set -eu
exec redis-server --bind "${1%:*}" --port "${1##*:}" --save "" --appendonly no --daemonize no \
    --tcp-backlog 4096 --loglevel warning --logfile ""
