# The program of a benchmark's guest, for busybox and dash. Sourced with: fill_pieces (files of 128 KiB in /ram/fill, which
# must be there), work_pieces (how many of them the work reads), work_files (names of files on a disk that it reads),
# text_file (a program, of which new pieces are made).
# Lines that it understands on its console, each with a token of eight characters that makes it new:
#   ping TOKEN        answers "begun"
#   go TOKEN          answers "begun", works, answers "done" with a digest of what it read, tidies up, answers "idle"
#   scan TOKEN        the same, but reads all of its memory before it works
#   dirty:MIB TOKEN   answers "begun", writes so much memory anew, answers "done" and "idle"

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

# Once, free pages too: what /proc/kcore, by the table of its segments (ELF), says is memory. Says of each whether it was read.
scan() {
  segments=$(od -An -v -j 56 -N 2 -t u2 /proc/kcore)
  od -An -v -j 64 -N "$((segments * 56))" -w56 -t x8 /proc/kcore |
    while read -r kind offset _ physical size _; do
      case $kind,$physical in
        *,ffffffffffffffff) continue ;;
        *00000001,*) ;;
        *) continue ;;
      esac
      {
        dd bs=4096 skip="$((0x$offset / 4096))" count=0 &&
          dd bs=65536 count="$((0x$size / 65536))" of=/dev/null
      } < /proc/kcore 2> /dev/null && echo read || echo failed
    done
}

# The pieces that there are, in place, then further ones; each as compressible as those, and none like another.
dirty() {
  text_parts=$(($(stat -c %s "$text_file") / 32768))
  piece=0
  while [ "$piece" -lt "$(($1 * 8))" ]; do
    {
      dd if="$text_file" bs=32k skip="$(((piece * 5 + 1) % (text_parts - 2)))" count=3 2> /dev/null
      head -c 32768 /dev/urandom
    } 1<> "/ram/fill/$piece"
    piece=$((piece + 1))
  done
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
    ping | go | scan | dirty:*)
      read -r nonce < /ram/nonce
      say begun
      ;;
  esac
  case $word in
    scan)
      scanned=$(scan)
      work
      # A wrong digest, so that nobody takes it for a scan.
      case $scanned in '' | *failed*) digest=- ;; esac
      ;;
    go) work ;;
    dirty:*) dirty "${word#dirty:}" ;;
    *) continue ;;
  esac
  say done
  tidy
  say idle
done
