# The program of a benchmark's guest, for busybox and dash. Sourced with: fill_pieces (files of 128 KiB in /ram/fill, which
# must be there), work_pieces (how many of them the work reads), work_files (names of files on a disk that it reads).
# Lines that it understands on its console, each with a token of eight characters that makes it new:
#   ping TOKEN   answers "begun"
#   go TOKEN     answers "begun", works, answers "done" with a digest of what it read, tidies up, answers "idle"

# Pairs of neighbours, scattered, the same each time; 7919 is prime, so that none comes twice.
work_list=
pair=0
while [ "$pair" -lt "$((work_pieces / 2))" ]; do
  first=$((2 * (pair * 7919 % (fill_pieces / 2))))
  work_list="$work_list /ram/fill/$first /ram/fill/$((first + 1))"
  pair=$((pair + 1))
done

say() { echo "isr-bench $1 nonce=$nonce token=$token digest=${digest:--}"; }

work() {
  # Written: a piece. Read: the pieces, and the files.
  head -c 131072 /ram/fill/0 > /ram/out
  digest=$(cat $work_list $work_files | md5sum)
  digest=${digest%% *}
}

# What was read of the disk is not in memory the next time.
tidy() {
  for file in $work_files; do dd if="$file" iflag=nocache count=0 2> /dev/null; done
}

read -r nonce < /ram/nonce
token=--------
digest=
last=
say ready
while read -r word token; do
  [ "${#token}" = 8 ] && [ "$token" != "$last" ] || continue
  last=$token
  digest=
  case $word in
    ping | go)
      read -r nonce < /ram/nonce
      say begun
      ;;
    *) continue ;;
  esac
  if [ "$word" = go ]; then
    work
    say done
    tidy
    say idle
  fi
done
