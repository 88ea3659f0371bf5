#!/bin/sh
# serve.sh ADDRESS WORKERS [TLS_ADDRESS CERTIFICATE KEY]: nginx in the foreground with a body of two bytes, and nothing
# written for a call; at TLS_ADDRESS the same with TLS.
set -eu
home=$(cd "$(dirname "$0")/.." && pwd)/target/nginx-${1##*:}
secured=
if [ $# -gt 2 ]; then
    secured="listen $3 ssl backlog=4096;
        ssl_certificate $4;
        ssl_certificate_key $5;
        ssl_protocols TLSv1.2 TLSv1.3;"
fi
mkdir -p "$home"
ulimit -n "$(ulimit -H -n)"
cat > "$home/nginx.conf" <<CONF
daemon off;
worker_processes $2;
pid $home/nginx.pid;
error_log stderr error;
events { worker_connections 16384; }
http {
    access_log off;
    default_type application/json;
    # Its default, 1000, would have every connection made anew all the time.
    keepalive_requests 1000000000;
    client_body_temp_path $home/body;
    proxy_temp_path $home/proxy;
    fastcgi_temp_path $home/fastcgi;
    uwsgi_temp_path $home/uwsgi;
    scgi_temp_path $home/scgi;
    server {
        listen $1 backlog=4096;
        $secured
        location / { return 200 "13"; }
    }
}
CONF
exec nginx -p "$home" -e stderr -c "$home/nginx.conf"
