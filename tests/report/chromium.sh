#!/usr/bin/env bash
# Opens a report in headless Chromium, at 1280 and at 400 pixels, in both themes, and on paper; fails where the browser's
# console has an error, where the page asks the network for anything, or where it is wider than the window.
#
#   tests/report/chromium.sh REPORT.html FOLDER      leaves screenshots and the printed page in FOLDER, to be looked at
#
# By hand only: it needs Debian's package chromium, which launch/install.sh does not install.
set -euo pipefail

if [ $# -ne 2 ] || [ ! -r "$1" ]; then echo "usage: tests/report/chromium.sh REPORT.html FOLDER" >&2; exit 2; fi
command -v chromium >/dev/null || { echo "chromium: not installed; apt-get install chromium" >&2; exit 1; }
page=$(realpath "$1")
mkdir -p "$2"
folder=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# browse LOG ARGUMENTS...: one start of the browser. Every name is unknown to it, so any request would fail loudly.
browse() {
  local log=$1
  shift
  timeout 120 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --user-data-dir="$work/profile" \
    --allow-file-access-from-files --host-resolver-rules="MAP * ~NOTFOUND" --enable-logging=stderr --virtual-time-budget=5000 "$@" >"$log.out" 2>"$log" ||
    { echo "chromium failed; see $log" >&2; exit 1; }
}

# The page in a frame of the width: a window cannot be as narrow as a telephone. The frame grows to the page's height, and the
# title tells the page's own width.
framed() {
  cp "$page" "$work/page.html"
  cat >"$work/frame.html" <<HTML
<!DOCTYPE html><title>?</title><body style="margin:0"><iframe id="f" src="page.html" style="border:0;display:block;width:$1px;height:1000px"></iframe>
<script>document.getElementById("f").onload = e => { const root = e.target.contentDocument.documentElement;
document.title = "width " + root.scrollWidth; e.target.style.height = root.scrollHeight + "px"; };</script></body>
HTML
}

failed=0
for width in 1280 400; do
  framed "$width"
  for theme in light dark; do
    dark=()
    [ "$theme" = light ] || dark=(--blink-settings=preferredColorScheme=0)
    log=$folder/$width-$theme.log
    browse "$log" "${dark[@]}" --window-size="$width,${HEIGHT:-9000}" --screenshot="$folder/$width-$theme.png" "file://$work/frame.html"
    if grep -E 'CONSOLE|ERR_NAME_NOT_RESOLVED' "$log"; then
      echo "the console of $width-$theme has the lines above" >&2
      failed=1
    fi
  done
  browse "$folder/$width-width.log" --window-size="$width,2000" --dump-dom "file://$work/frame.html"
  wide=$(grep -oE '<title>width [0-9]+' "$folder/$width-width.log.out" | grep -oE '[0-9]+')
  echo "in $width pixels the page is $wide wide"
  [ "$wide" -le "$width" ] || { echo "the page is wider than its window" >&2; failed=1; }
done
browse "$folder/print.log" --print-to-pdf="$folder/print.pdf" --no-pdf-header-footer "file://$page"
rm -f "$folder"/*.out
echo "screenshots and print.pdf are in $folder"
exit "$failed"
