#!/bin/busybox sh
# The small guest of `make bench-resume`: fills its memory, then does what its console says. isr_fill: MiB to fill.
export PATH=/bin
/bin/busybox mkdir -p /dev /proc /ram
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t tmpfs -o size=95% none /ram
mkdir /ram/fill
stty -F /dev/ttyS0 -echo -onlcr
head -c 16 /dev/urandom | xxd -p > /ram/nonce

# Program text and random bytes, so that a piece compresses to about two thirds and no two are equal.
fill_pieces=$((${isr_fill:-96} * 8))
program_parts=$(($(stat -c %s /bin/busybox) / 32768))
piece=0
while [ "$piece" -lt "$fill_pieces" ]; do
  {
    dd if=/bin/busybox bs=32k skip=$((piece * 3 % (program_parts - 2))) count=3 2> /dev/null
    head -c 32768 /dev/urandom
  } > /ram/fill/$piece
  piece=$((piece + 1))
done
work_pieces=256
work_files=
text_file=/bin/busybox
. /work.sh
