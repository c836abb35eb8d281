# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Programs of Prometheus, promtool and node_exporter, to be sourced after deb.sh. They
# are extracted only, as installing the packages would start services.

promtool_fetch() {
	deb_fetch_extract bookworm "$1" prometheus &&
		find "$1" -type f ! -name promtool -delete
}

# promtool_path - print the path of promtool
promtool_path() {
	local folder

	folder=$(deb_cached promtool/bookworm promtool_fetch) &&
		echo "$folder/usr/bin/promtool"
}

node_exporter_fetch() {
	deb_fetch_extract bookworm "$1" prometheus-node-exporter
}

# node_exporter_path - print the path of node_exporter
node_exporter_path() {
	local folder

	folder=$(deb_cached node-exporter/bookworm node_exporter_fetch) &&
		echo "$folder/usr/bin/prometheus-node-exporter"
}
