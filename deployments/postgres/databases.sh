#!/bin/bash
# Run once by the image of Postgres, on an empty volume: a role and a database for each service, closed to the
# others. Passwords come from files and appear on no command line.
set -euo pipefail
for name in prefect evergreen mlflow; do
    psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 -v name="$name" --username "${POSTGRES_USER:-postgres}" --dbname postgres <<SQL
\\set password \`cat "${SECRETS:-/run/secrets}/db_$name"\`
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
