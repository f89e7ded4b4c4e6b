#!/bin/sh
# Makes the secrets that docker-compose.yml mounts, in .arriero/secrets: a Redis password, an admin key, a key that may
# only read metrics, Grafana's password. What exists stays. Redis' user list is written anew each time, from
# infra/redis/users.acl and the password's hash, so that an upgrade brings its commands along.
set -eu
cd "$(dirname -- "$0")/../.."

secrets=.arriero/secrets
mkdir -p "$secrets"
# The folder keeps other users of this machine out. The files are readable, because Compose mounts them as they are and
# the services run under ids of their own.
chmod 700 "$secrets"
umask 022

random_hex() { # bytes
    od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'
}

sha256() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1
}

keep_or_write() { # name text
    [ -s "$secrets/$1" ] || printf '%s\n' "$2" >"$secrets/$1"
}

keep_or_write redis_password "$(random_hex 24)"
keep_or_write api_key "ark_$(random_hex 6)_$(random_hex 20)"
keep_or_write metrics_key "ark_$(random_hex 6)_$(random_hex 20)"
keep_or_write grafana_password "$(random_hex 12)"

hash=$(printf '%s' "$(cat "$secrets/redis_password")" | sha256)
# In place, not by renaming: a running container has this very file mounted.
sed "s/#0\{64\}/#$hash/" infra/redis/users.acl >"$secrets/redis_users"
