# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Prometheus's own checker, and its exporter of what hosts have, to be sourced after
# deb.sh.

promtool_fetch() {
	deb_fetch_extract bookworm "$1" prometheus &&
		find "$1" -type f ! -name promtool -delete
}

# promtool_path - the program alone: nobody wants the server to be started
promtool_path() {
	local folder

	folder=$(deb_cached promtool/bookworm promtool_fetch) &&
		echo "$folder/usr/bin/promtool"
}

node_exporter_fetch() {
	deb_fetch_extract bookworm "$1" prometheus-node-exporter
}

# node_exporter_path - the program alone: its service is not to be started
node_exporter_path() {
	local folder

	folder=$(deb_cached node-exporter/bookworm node_exporter_fetch) &&
		echo "$folder/usr/bin/prometheus-node-exporter"
}
