# Sourced by each finding: a temporary folder as working folder, removed at the end, and pinned packages in it.
set -euo pipefail
FINDINGS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
chmod 755 "$WORK"
cd "$WORK"
cp "$FINDINGS"/lib/*.mjs .
echo '{ "private": true, "type": "module" }' >package.json

# Says which version it is about, then installs it: install pg@8.23.0 …
install() {
  echo "with: $* (Node $(node --version))"
  npm install --silent --no-audit --no-fund --save-exact "$@"
}

# Fails where a program is missing: need pgbouncer apt-get install pgbouncer
need() {
  PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null && return
  shift
  echo "missing: $*" >&2
  exit 2
}

# Fetches Keycloak with Maven and builds it, in ./keycloak: install_keycloak 26.7.3
install_keycloak() {
  need java apt-get install openjdk-17-jre-headless
  need mvn apt-get install maven
  need unzip apt-get install unzip
  echo "with: Keycloak $1 (Node $(node --version))"
  mvn -q dependency:copy -Dartifact="org.keycloak:keycloak-quarkus-dist:$1:zip" -DoutputDirectory="$WORK" \
    -Dtransitive=false
  unzip -q "keycloak-quarkus-dist-$1.zip"
  mv "keycloak-$1" keycloak
  keycloak/bin/kc.sh build --db=dev-mem >build.log 2>&1 || { cat build.log >&2; exit 1; }
}
