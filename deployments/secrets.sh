#!/bin/sh
# Makes the secrets that compose.yaml needs: secrets.sh FOLDER. What exists stays as it is.
# The folder is closed to everyone else. The files in it may be read, because a container's user has an id of
# its own and sees the single file that is handed to it, never the folder.
set -eu
folder=${1:?usage: sh deployments/secrets.sh FOLDER}
umask 077
mkdir -p "$folder"
chmod 700 "$folder"
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
for name in postgres db_prefect db_evergreen db_mlflow mask_key prefect_auth; do
    file=$folder/$name
    [ -s "$file" ] && continue
    value=$(random)
    [ "$name" = prefect_auth ] && value=evergreen:$value # user:password of the API and the UI
    printf '%s\n' "$value" >"$file"
    chmod 444 "$file"
    echo "made $file"
done
