# Keeps one server for a test process: starts it and sends it signals when told to on standard input.
# When that closes, the test process is gone or done with the server: kills it, removes its folder.
# $1: where to make the folder, $2: the beginning of its name.

# Not ignored, which the server would inherit: a handler is reset in a child. A reply that nobody reads
# must not end this shell before it has cleaned up.
trap : HUP INT TERM PIPE
folder=$(mktemp -d "$1/$2-XXXXXX") || exit 1
server=
echo "$folder"
while read -r word argument; do
  case $word in
  start)
    [ -z "$server" ] || wait "$server"
    sh "$folder/run" </dev/null >>"$folder/server.log" 2>&1 &
    server=$!
    echo "$server"
    ;;
  signal)
    kill -s "$argument" "$server" 2>/dev/null
    echo $?
    ;;
  esac
done
[ -z "$server" ] || kill -s KILL "$server" 2>/dev/null
wait
rm -rf "$folder"
