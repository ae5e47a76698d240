#!/bin/sh
# The large guest of `make bench-resume`: a service of a Debian that has booted. Fills memory, then does what its console says.
mkdir -p /ram
mount -t tmpfs -o size=60% none /ram
mkdir /ram/fill
stty -echo -onlcr
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' > /ram/nonce
echo >> /ram/nonce

# Program text and random bytes, in turns; reading the programs fills the page cache, too.
cd /ram/fill
find /usr/bin /usr/sbin /usr/lib -xdev -type f -size +64k | LC_ALL=C sort | xargs cat |
  head -c 220M | split -b 131072 -d -a 5 - t
head -c 50M /dev/urandom | split -b 131072 -d -a 5 - r
piece=0
for file in t*; do
  mv "$file" "$piece"
  piece=$((piece + 1))
done
for file in r*; do
  mv "$file" "$piece"
  piece=$((piece + 1))
done
cd /
fill_pieces=$piece
work_pieces=320
work_files=$(find /srv/work -type f | LC_ALL=C sort | awk 'NR % 2 == 0' | head -60 | tr '\n' ' ')
text_file=/bin/bash
. /usr/local/lib/isr-bench/work.sh
