#!/bin/sh
# The real programs that the tests run against. As root they are installed from Debian; otherwise
# this says which are missing, and the tests that need them are left out (in CI: a failure).
set -eu
missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need prometheus prometheus
need promtool prometheus
need prometheus-alertmanager prometheus-alertmanager
need amtool prometheus-alertmanager
need prometheus-node-exporter prometheus-node-exporter
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing from Debian:$missing"
    apt-get update -qq
    # The packages' own services are not wanted here: the tests start what they need.
    printf '#!/bin/sh\nexit 101\n' > /tmp/watchkeeper-policy
    [ -e /usr/sbin/policy-rc.d ] || { install -m 755 /tmp/watchkeeper-policy /usr/sbin/policy-rc.d; ours=1; }
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    [ -z "${ours:-}" ] || rm /usr/sbin/policy-rc.d
    rm -f /tmp/watchkeeper-policy
else
    echo "Not installed, so the tests that need them are left out:$missing" >&2
    echo "To install them: sudo apt-get install$missing" >&2
    [ "${CI:-}" != true ] || exit 1
fi
