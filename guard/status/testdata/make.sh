#!/bin/sh
# Makes, with openssl, a CA (ca.pem), and lists of it as other tools write them: plain.crl
# and plain.pem, users.crl (issuing distribution point: a URL, users alone, some
# reasons), relative.crl (a point relative to the issuer, CAs alone) and delta.crl.
# Nobody keeps the key. The tests know the entries from here.
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
crlnumber = number
default_md = sha256
policy = any
[any]
organizationName = supplied
commonName = supplied
[ca_ext]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[plain]
authorityKeyIdentifier = keyid
[users]
authorityKeyIdentifier = keyid
issuingDistributionPoint = critical, @users_point
[users_point]
fullname = URI:http://lists.example/users.crl
onlyuser = TRUE
onlysomereasons = keyCompromise, CACompromise
[relative]
authorityKeyIdentifier = keyid
issuingDistributionPoint = critical, @relative_point
[relative_point]
relativename = point
onlyCA = TRUE
[point]
commonName = point
[delta]
2.5.29.27 = critical, ASN1:INTEGER:1
EOF
tab=$(printf '\t')
# serial, when and why; keyTime and CAkeyTime add an invalidity date.
revoked() {
	printf 'R%s400101000000Z%s%s%s%s%sunknown%s/O=rxguard simulation/CN=%s\n' \
		"$tab" "$tab" "$2" "$tab" "$1" "$tab" "$tab" "$1" >>index.txt
}
: >index.txt
revoked 01 260101000000Z
revoked 02 260102030405Z,keyCompromise
revoked 80 260103000000Z,certificateHold
revoked 5DC9AD1F 260104000000Z,superseded
revoked 00FFFFFFFF00000001 260105000000Z,cessationOfOperation
revoked FEDCBA9876543210FEDCBA9876543210 260106000000Z,affiliationChanged
revoked 7EDCBA9876543210FEDCBA98765432100A0B0C0D 260107000000Z,removeFromCRL
revoked 03 260108000000Z,keyTime,20251224180000Z
revoked 04 260109000000Z,CAkeyTime,20251225180000Z
revoked 05 491231235959Z,CACompromise
echo 0A >serial
echo 1001 >number
openssl req -new -newkey rsa:2048 -nodes -keyout ca.key -out ca.csr -config conf -subj '/O=rxguard simulation/CN=Test CA of lists'
cp index.txt kept
openssl ca -batch -config conf -selfsign -keyfile ca.key -in ca.csr -notext -out "$out/ca.pem" \
	-extensions ca_ext -startdate 20200101000000Z -enddate 20400101000000Z
cp kept index.txt
list() {
	openssl ca -config conf -cert "$out/ca.pem" -keyfile ca.key -gencrl -crlexts "$1" \
		-crl_lastupdate 20260301000000Z -crl_nextupdate 20260308000000Z -out "$1.pem"
	openssl crl -in "$1.pem" -outform der -out "$out/$1.crl"
}
for name in plain users relative delta; do list $name; done
cp plain.pem "$out/plain.pem"
