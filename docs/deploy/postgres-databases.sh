#!/bin/sh
# Makes the databases of Metabase and Airflow beside Clickmill's, each with a role of its own. PostgreSQL's image runs it once,
# when its volume is empty.
set -eu
for name in metabase airflow; do
    case $name in
        metabase) password=$METABASE_DB_PASSWORD ;;
        airflow) password=$AIRFLOW_DB_PASSWORD ;;
    esac
    psql -v ON_ERROR_STOP=1 -v name="$name" -v password="$password" \
        --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
SQL
done
