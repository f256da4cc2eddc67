# Where packages come from: the mirrors that this machine's apt already uses. Sourced.
# shellcheck shell=bash

readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The machine's Debian sources, one "URI SUITE COMPONENT" per line; backports and other vendors are left out.
machine_sources() {
  # shellcheck disable=SC2016  # apt's own variables
  apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' | sort -u |
    awk '$4 == "Debian" && $2 !~ /backports/ {print $1, $2, $3}'
}

# The release itself: the first line of a suite without suffix.
base_source() {
  machine_sources | awk '$2 !~ /-/ && $3 == "main" {print; found = 1; exit} END {exit !found}' ||
    { echo "this machine has no Debian package sources: run apt-get update" >&2; return 1; }
}

# bootstrap SUITE DIRECTORY PACKAGES OPTION... <SOURCES: a Debian root file system; SOURCES are lines of machine_sources.
bootstrap() {
  local suite=$1 directory=$2 packages=$3
  shift 3
  awk -v keyring="$keyring" '{print "deb [signed-by=" keyring "]", $0}' |
    mmdebstrap --quiet --variant=apt --mode=root --include="$packages" --aptopt='APT::Install-Recommends "false"' \
      --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
      --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' "$@" "$suite" "$directory" -
}
