#!/bin/sh
# Makes card.pem, a signing certificate issued on 29 September 2020, and ca.pem,
# its issuer. Nobody keeps the keys. The golden verdicts name fingerprint and
# serial of card.pem, so they change with it.
set -eu
cd "$(dirname "$0")"
out=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >conf <<'EOF'
[req]
distinguished_name = dn
prompt = no
[dn]
[ca]
default_ca = it
[it]
database = index.txt
new_certs_dir = .
serial = serial
default_md = sha256
policy = any
unique_subject = no
[any]
organizationName = supplied
organizationalUnitName = supplied
commonName = supplied
[ca_ext]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[card_ext]
basicConstraints = CA:FALSE
keyUsage = critical, nonRepudiation
certificatePolicies = 1.2.826.0.1275.102.0.3.2.0
2.5.29.16 = ASN1:SEQUENCE:usage
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[usage]
not_before = IMPLICIT:0, GENERALIZEDTIME:20200929090000Z
not_after = IMPLICIT:1, GENERALIZEDTIME:20221106090000Z
EOF
: >index.txt
echo 5F72F6D0 >serial
openssl req -new -newkey rsa:2048 -nodes -keyout ca.key -out ca.csr -config conf \
	-subj '/O=rxguard simulation/OU=CA/CN=Test Issuing CA'
openssl ca -batch -config conf -selfsign -keyfile ca.key -in ca.csr -notext -out "$out/ca.pem" \
	-extensions ca_ext -startdate 20191111144517Z -enddate 20291111144517Z
openssl req -new -newkey rsa:2048 -nodes -keyout card.key -out card.csr -config conf \
	-subj '/O=rxguard simulation/OU=People/CN=000000000012_Test_Card'
openssl ca -batch -config conf -cert "$out/ca.pem" -keyfile ca.key -in card.csr -notext -out "$out/card.pem" \
	-extensions card_ext -startdate 20200929090000Z -enddate 20230929090000Z
