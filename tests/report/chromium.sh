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
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT

# browse LOG ARGUMENTS...: one start of the browser on the page. Every name is unknown to it, so any request would fail loudly.
browse() {
  local log=$1
  shift
  timeout 120 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --user-data-dir="$profile" \
    --host-resolver-rules="MAP * ~NOTFOUND" --enable-logging=stderr --v=0 --virtual-time-budget=3000 "$@" >"$log.out" 2>"$log" ||
    { echo "chromium failed; see $log" >&2; exit 1; }
}

failed=0
for width in 1280 400; do
  for theme in light dark; do
    dark=()
    [ "$theme" = light ] || dark=(--force-dark-mode --blink-settings=preferredColorScheme=0)
    log=$folder/$width-$theme.log
    browse "$log" "${dark[@]}" --window-size="$width,${HEIGHT:-6000}" --screenshot="$folder/$width-$theme.png" "file://$page"
    if grep -E 'CONSOLE|ERR_NAME_NOT_RESOLVED' "$log"; then
      echo "the console of $width-$theme has the lines above" >&2
      failed=1
    fi
  done
  # The page's own width, told by a copy that writes it into its title.
  sed 's|</body>|<script>document.title = "width " + document.documentElement.scrollWidth + " of " + window.innerWidth;</script></body>|' "$page" >"$profile/page.html"
  browse "$folder/$width-width.log" --window-size="$width,2000" --dump-dom "file://$profile/page.html"
  read -r wide window < <(grep -oE '<title>width [0-9]+ of [0-9]+' "$folder/$width-width.log.out" | grep -oE '[0-9]+' | paste -sd ' ')
  echo "$width pixels: the page is $wide wide in a window of $window"
  [ "$wide" -le "$window" ] || { echo "the page is wider than its window" >&2; failed=1; }
done
browse "$folder/print.log" --print-to-pdf="$folder/print.pdf" --no-pdf-header-footer "file://$page"
echo "screenshots and print.pdf are in $folder"
exit "$failed"
