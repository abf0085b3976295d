#!/bin/sh
# A CA of your own, and certificates signed by it. Needs openssl.
#
#     make-certificates.sh FOLDER broker NAME [NAME ...]    the broker's, for these host names and addresses
#     make-certificates.sh FOLDER client NAME               a device's or an edge's; NAME becomes its account
#
# The first call makes the CA: FOLDER/ca.crt goes to everybody, FOLDER/ca.key to nobody.
set -eu
umask 077

[ $# -ge 3 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
folder=$1 kind=$2
shift 2
mkdir -p "$folder"
cd "$folder"

if [ ! -e ca.key ]; then
    openssl ecparam -name prime256v1 -genkey -noout -out ca.key
    openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj "/CN=Cascade CA" -out ca.crt \
        -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign"
    chmod 644 ca.crt
    echo "made $folder/ca.crt: every device and edge needs it; keep $folder/ca.key to yourself"
fi

case $kind in
broker)
    file=broker usage=serverAuth names=
    for name in "$@"; do
        case $name in
        *:* | *[!0-9.]*) type=DNS; case $name in *:*) type=IP ;; esac ;;
        *) type=IP ;;
        esac
        names="$names${names:+,}$type:$name"
    done
    ;;
client)
    [ $# -eq 1 ] || { echo "one name at a time, please" >&2; exit 2; }
    case $1 in
    *[!A-Za-z0-9._:@=-]* | [!A-Za-z0-9]*) echo "letters, digits and . _ : @ = - only: $1" >&2; exit 2 ;;
    esac
    file=$1 usage=clientAuth names="URI:urn:cascade:$1"
    ;;
*)
    echo "make a certificate for 'broker' or for 'client', not for '$kind'" >&2
    exit 2
    ;;
esac

extensions=$(mktemp)
trap 'rm -f "$extensions"' EXIT
printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=%s\nsubjectAltName=%s\n' \
    "$usage" "$names" >"$extensions"
openssl ecparam -name prime256v1 -genkey -noout -out "$file.key"
openssl req -new -key "$file.key" -subj "/CN=$1" -out "$file.csr"
openssl x509 -req -in "$file.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days 825 \
    -extfile "$extensions" -out "$file.crt" 2>/dev/null
rm -f "$file.csr"
chmod 644 "$file.crt"
echo "made $folder/$file.crt and $folder/$file.key"
