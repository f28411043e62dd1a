#!/bin/sh
# Makes the signatures of this folder with OpenSSL 3.0 alone, so that none of the code
# under test had a part in them. The keys are made here and thrown away: what is kept
# are certificates and signatures. Run it in this folder; every signature changes.
set -eu
out=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

printf 'one order, one line\nanother line\n' >content
: >index.txt
cat >ca.cnf <<EOF
[ca]
default_ca = test
[test]
new_certs_dir = .
database = index.txt
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
organizationName = supplied
commonName = supplied
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[signer]
keyUsage = critical, nonRepudiation
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[encipherment]
keyUsage = critical, keyEncipherment
subjectKeyIdentifier = hash
EOF

# issue NAME PROFILE CA [notBefore notAfter]: of a key in NAME.key
issue() {
	openssl req -new -key "$1.key" -subj "/O=rxguard test vectors/CN=$1" -out "$1.csr"
	if [ "$1" = "$3" ]; then by="-selfsign -keyfile $3.key"; else by="-cert $3.pem -keyfile $3.key"; fi
	openssl ca -batch -notext -config ca.cnf -extensions "$2" $by -in "$1.csr" -out "$1.pem" \
		-startdate "${4:-20200101000000Z}" -enddate "${5:-20991231235959Z}" 2>>log
}
rsa() { openssl genpkey -algorithm RSA -pkeyopt "rsa_keygen_bits:$2" -out "$1.key" 2>>log; }
ec() { openssl genpkey -algorithm EC -pkeyopt "ec_paramgen_curve:$2" -out "$1.key"; }

rsa root 2048 && issue root authority root
rsa issuing 2048 && issue issuing authority root
rsa rsa 2048 && issue rsa signer issuing
rsa small 1024 && issue small signer issuing
ec ec P-256 && issue ec signer issuing
ec ec384 P-384 && issue ec384 signer issuing
cp rsa.key expired.key && issue expired signer issuing 20180101000000Z 20191231235959Z
cp rsa.key encipherment.key && issue encipherment encipherment issuing

# sign NAME KEY [more]: NAME.der
sign() {
	name=$1 key=$2
	shift 2
	openssl cms -sign -binary -in content -signer "$key.pem" -inkey "$key.key" -outform DER -out "$name.der" "$@"
}
sign rsa-detached rsa -md sha256
sign rsa-attached rsa -md sha256 -nodetach
sign ec-detached ec -md sha256
sign ec-attached ec -md sha256 -nodetach
sign rsa-cades rsa -md sha256 -cades
sign ec-cades ec -md sha256 -cades -nodetach
sign rsa-keyid rsa -md sha256 -keyid -nodetach
sign rsa-sha512 rsa -md sha512
sign ec384-sha384 ec384 -md sha384 -cades
sign rsa-chain rsa -md sha256 -certfile issuing.pem
sign rsa-without-certificate rsa -md sha256 -nocerts

sign bad-no-attributes rsa -md sha256 -noattr
sign bad-two-signers rsa -md sha256 -signer ec.pem -inkey ec.key
sign bad-sha1 rsa -md sha1
sign bad-pss rsa -md sha256 -keyopt rsa_padding_mode:pss
sign bad-streamed rsa -md sha256 -nodetach -stream
sign bad-small-key small -md sha256
sign bad-expired expired -md sha256
sign bad-key-usage encipherment -md sha256
sign bad-content-type rsa -md sha256 -nodetach -econtent_type 1.2.3.4
openssl crl2pkcs7 -nocrl -certfile rsa.pem -outform DER -out bad-no-signer.der
openssl cms -encrypt -binary -in content -outform DER -out bad-enveloped.der -aes128 encipherment.pem

for p in root issuing rsa ec small; do openssl x509 -in "$p.pem" -out "$out/$p.pem"; done
cp content ./*.der "$out"
