#!/bin/sh
# get-bitcoind.sh [PREFIX]: unpack a real bitcoind for the regtest tests, without root.
#
# It takes Debian's bitcoin-knots with the shared libraries it needs, from the mirror this machine
# already uses (or MIRROR=), checks them as apt does (archive signature, SHA256) and runs them
# through their own dynamic linker: neither the host's libraries nor its package lists change.
# Needs apt, dpkg-deb and debian-archive-keyring. For regtest alone; never a mainnet backend.
set -eu
prefix=${1:-$PWD/.bitcoind}
suite=${SUITE:-sid}
keyring=${KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}

die() { echo "get-bitcoind: $*" >&2; exit 69; }

for tool in apt-get apt-cache dpkg-deb; do
  command -v $tool >/dev/null || die "no $tool on this machine (the script unpacks Debian packages)"
done
[ -r "$keyring" ] || die "no $keyring: install debian-archive-keyring"
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
  grep -E '/debian/?$' | head -n 1)}
[ -n "$mirror" ] || die "no Debian mirror among the apt sources: set MIRROR="

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/none"
echo "deb [signed-by=$keyring] $mirror $suite main" > "$work/sources.list"
: > "$work/status"

# An apt of its own: this source alone, an empty set of installed packages.
set -- -qq \
  -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
  -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts="$work/none" \
  -o Dir::State="$work" -o Dir::State::Lists="$work/lists" -o Dir::State::Status="$work/status" \
  -o Dir::Cache="$work/cache" -o APT::Sandbox::User="" -o Acquire::Languages=none \
  -o Acquire::Retries=3 \
  -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
  -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false
apt-get "$@" update || die "the package lists of $suite could not be read"

# bitcoin-knots and its lib* dependencies, theirs, and so on; nothing that would configure a host.
todo=bitcoin-knots
all=
while [ -n "$todo" ]; do
  next=
  for package in $todo; do
    case " $all " in *" $package "*) continue ;; esac
    all="$all $package"
    next="$next $(apt-cache "$@" depends --no-recommends --no-suggests --no-conflicts --no-breaks \
      --no-replaces --no-enhances "$package" |
      sed -n 's/^ *|\{0,1\}\(Pre\)\{0,1\}Depends: \(lib[a-z0-9.+-]*\).*/\2/p' | tr '\n' ' ')"
  done
  todo=$(echo $next)
done
(cd "$work/debs" && apt-get "$@" download $all) || die "a package could not be downloaded"

# Unpacked beside, moved into place last: an interrupted run leaves no half a prefix.
stage=$work/stage
mkdir -p "$stage/root" "$stage/bin"
for deb in "$work"/debs/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$stage/root" --keep-directory-symlink \
    --exclude='./usr/share/*' --exclude='*/gconv/*' --exclude='./etc/*' \
    --exclude='./lib/systemd/*' --exclude='./usr/lib/systemd/*'
done
(cd "$work/debs" && sha256sum ./*.deb) > "$stage/SHA256SUMS"

linker=$(cd "$stage/root" && find . -name 'ld-linux*.so.*' \( -type f -o -type l \) |
  sed 's|^\./||' | grep -E '^(usr/)?lib' | sort | head -n 1)
libraries=$(cd "$stage/root" && find . -name libc.so.6 | sed 's|^\./||; s|/libc.so.6$||' | head -n 1)
for program in bitcoind bitcoin-cli; do
  cat > "$stage/bin/$program" <<RUN
#!/bin/sh
root=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")/root
exec "\$root/$linker" --library-path "\$root/$libraries" --argv0 $program "\$root/usr/bin/$program" "\$@"
RUN
  chmod +x "$stage/bin/$program"
done
"$stage/bin/bitcoind" -version | head -n 1
rm -rf "$prefix"
mkdir -p "$(dirname "$prefix")"
mv "$stage" "$prefix"
