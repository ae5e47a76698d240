import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { guestConfig, makeEmptyFile, sourcePath, type BenchGuest } from './bench-guest.js';

const run = promisify(execFile);

const memoryMiB = 1024;
const diskMiB = 2048;
const disk = 'disk.raw';

const config = guestConfig({
  memoryMiB,
  arguments: ['-drive', `file=${disk},format=raw,if=virtio,cache=writeback`, '-rtc', 'base=utc'],
  kernelParameters: 'root=/dev/vda rw systemd.show_status=false net.ifnames=0',
});

const packages =
  'systemd-sysv,linux-image-cloud-amd64,initramfs-tools,zstd,udev,dbus,openssh-server,cron,rsyslog,nginx-light';

const unit = `[Unit]
Description=The work of make bench-resume
After=ssh.service cron.service rsyslog.service nginx.service

[Service]
Type=simple
ExecStart=/bin/sh /usr/local/lib/isr-bench/large-guest.sh
StandardInput=tty-force
StandardOutput=tty
TTYPath=/dev/ttyS0

[Install]
WantedBy=multi-user.target
`;

/** What the work reads of the disk: every other one of 120 files of 512 KiB with programs' text. */
const makeWorkFiles = `mkdir -p "$1/srv/work"
find "$1/usr" -xdev -type f -size +32k | LC_ALL=C sort -r | xargs cat | head -c 60M |
  split -b 524288 -d -a 4 - "$1/srv/work/"`;

/**
 * 1 GiB, a Debian made by debootstrap on a disk of 2 GiB, with its services running; its work reads 40 MiB of RAM and
 * 30 MiB of files.
 */
export const largeGuest: BenchGuest = {
  name: 'large',
  title: '1 GiB, Debian on a disk of 2 GiB; works on 40 MB of RAM and 30 MB of files',
  memoryMiB,
  disk,

  async recipe() {
    const scripts = await Promise.all(['guests/large-guest.sh', 'guests/work.sh'].map(source));
    return [config, packages, unit, makeWorkFiles, `${diskMiB}`, ...scripts].join('\n');
  },

  async build(directory) {
    const work = await mkdtemp(join(tmpdir(), 'isr-bench-debian-'));
    const root = join(work, 'root');
    try {
      await run('debootstrap', ['--variant=minbase', `--include=${packages}`, 'bookworm', root], {
        maxBuffer: 2 ** 26,
      });
      await rm(join(root, 'var/cache/apt'), { recursive: true, force: true });
      await rm(join(root, 'var/lib/apt/lists'), { recursive: true, force: true });
      await configure(root);
      await run('sh', ['-c', makeWorkFiles, 'sh', root]);
      const boot = await readdir(join(root, 'boot'));
      for (const [prefix, name] of [
        ['vmlinuz-', 'vmlinuz'],
        ['initrd.img-', 'initrd'],
      ] as const) {
        const file = boot.find((candidate) => candidate.startsWith(prefix));
        if (file === undefined) throw new Error(`debootstrap left no ${prefix} in /boot`);
        await copyFile(join(root, 'boot', file), join(directory, name));
      }
      await run('mke2fs', ['-q', '-t', 'ext4', '-d', root, join(directory, disk), `${diskMiB}M`]);
      await writeFile(join(directory, 'isr.toml'), config);
      await makeEmptyFile(join(directory, 'mem'), memoryMiB * 2 ** 20);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  },
};

async function configure(root: string): Promise<void> {
  const programs = join(root, 'usr/local/lib/isr-bench');
  await mkdir(programs, { recursive: true });
  for (const name of ['large-guest.sh', 'work.sh'])
    await copyFile(sourcePath(`guests/${name}`), join(programs, name));
  const units = join(root, 'etc/systemd/system');
  await writeFile(join(units, 'isr-bench.service'), unit);
  await writeFile(join(root, 'etc/hostname'), 'isr-bench\n');
  await writeFile(join(root, 'etc/fstab'), '/dev/vda / ext4 rw 0 1\n');
  await run('systemctl', ['--root', root, 'enable', 'isr-bench.service']);
  // They would write in the middle of a measurement, or take the console.
  await run('systemctl', [
    ...['--root', root, 'mask', 'serial-getty@ttyS0.service', 'apt-daily.timer', 'apt-daily-upgrade.timer'],
    ...['dpkg-db-backup.timer', 'fstrim.timer', 'e2scrub_all.timer', 'systemd-tmpfiles-clean.timer'],
  ]);
}

function source(name: string): Promise<string> {
  return readFile(sourcePath(name), 'utf8');
}
