#!/bin/sh
# Prints the secrets that compose.yaml asks for, freshly made:
#
#   deploy/make-env.sh > .env && chmod 600 .env && docker compose up --build
#
# TIDINGS_MASTER_KEY is what all other keys are derived from: whoever loses it loses every secret of every tenant.
set -eu

secret() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

for name in NATS_OWNER NATS_GATEWAY NATS_DELIVERY POSTGRES TIDINGS_OWNER TIDINGS_PROJECTOR TIDINGS_QUERY; do
  printf '%s_PASSWORD=%s\n' "$name" "$(secret 24)"
done
printf 'TIDINGS_ADMIN_KEY=tdk_%s\n' "$(secret 32)"
printf 'TIDINGS_MASTER_KEY=%s\n' "$(secret 32)"
