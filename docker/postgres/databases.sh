#!/bin/sh
# Runs once, on an empty volume: a database and a role of its own for each part.
set -eu
for part in airflow mlflow events; do
    password=$(printenv "$(echo "$part" | tr '[:lower:]' '[:upper:]')_DB_PASSWORD")
    psql --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --set=part="$part" --set=password="$password" <<'SQL'
CREATE ROLE :"part" LOGIN PASSWORD :'password';
CREATE DATABASE :"part" OWNER :"part";
SQL
done
