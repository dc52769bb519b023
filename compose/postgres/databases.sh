#!/usr/bin/env bash
# Gives Kong and the collector a database and a user each. Postgres's image runs it once, on an
# empty data directory.
set -euo pipefail

create() {
  NAME=$1 PASSWORD=$2 psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 \
    --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv name NAME
\getenv password PASSWORD
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

create kong "$KONG_PG_PASSWORD"
create tallyman "$COLLECTOR_PG_PASSWORD"
