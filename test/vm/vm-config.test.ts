import fc from 'fast-check';
import t from 'tap';
import { InvalidInput } from '../../src/base/index.js';
import { fillPlaceholders, parseVmConfig } from '../../src/vm/vm-config.js';

const smallest = `format = 1
[hypervisor]
kind = "qemu"
[memory]
size = "256M"
`;

function refusal(text: string): InvalidInput {
  try {
    parseVmConfig(text, 'isr.toml');
  } catch (error) {
    if (error instanceof InvalidInput) return error;
    throw error;
  }
  throw new Error(`accepted: ${text}`);
}

t.test('the smallest QEMU configuration is filled up with defaults', (t) => {
  t.strictSame(parseVmConfig(smallest, 'isr.toml'), {
    kind: 'qemu',
    binary: 'qemu-system-x86_64',
    machine: 'q35',
    accelerator: 'auto',
    arguments: [],
    bootArguments: [],
    memory: { file: 'mem', sizeBytes: 256 * 2 ** 20, shared: true },
    stateFile: 'state',
    timeoutSeconds: { start: 60, resume: 600, suspend: 600, kill: 30, inspect: 5 },
  });
  t.end();
});

t.test('every QEMU key is read', (t) => {
  const config = parseVmConfig(
    `format = 1
    [hypervisor]
    kind = "qemu"
    binary = "/opt/qemu"
    machine = "pc-q35-7.2,hpet=off"
    accelerator = "tcg"
    arguments = ["-device", "virtio-net", "-chardev", "file,id=c,path={run}/c.log"]
    boot_arguments = ["-cdrom", "{directory}/install.iso"]
    [memory]
    file = "images/ram"
    size = "1.5G"
    share = false
    [state]
    file = "images/devices"
    [timeout_seconds]
    resume = 0.5`,
    'isr.toml',
  );
  t.match(config, {
    binary: '/opt/qemu',
    machine: 'pc-q35-7.2,hpet=off',
    accelerator: 'tcg',
    arguments: ['-device', 'virtio-net', '-chardev', 'file,id=c,path={run}/c.log'],
    bootArguments: ['-cdrom', '{directory}/install.iso'],
    memory: { file: 'images/ram', sizeBytes: 1536 * 2 ** 20, shared: false },
    stateFile: 'images/devices',
    timeoutSeconds: { start: 60, resume: 0.5 },
  });
  t.end();
});

t.test('commands are read as lists of words', (t) => {
  const steps = ['start', 'resume', 'suspend', 'kill', 'inspect'];
  const commands = steps.map((step) => `${step} = ["run", "${step}", "{name}"]`).join('\n');
  const config = parseVmConfig(`format = 1\n[hypervisor]\nkind = "command"\n${commands}`, 'isr.toml');
  t.match(config, { kind: 'command', suspend: ['run', 'suspend', '{name}'], timeoutSeconds: { kill: 30 } });
  t.match(
    refusal(`format = 1\n[hypervisor]\nkind = "command"\nstart = []`).message,
    'must begin with a program',
  );
  t.match(
    refusal(`format = 1\n[hypervisor]\nkind = "command"\nstart = "run"`).message,
    'must be a list of texts',
  );
  t.end();
});

const refused: readonly (readonly [what: string, text: string, message: string])[] = [
  ['no TOML', 'format = 1\nkind = [', 'isr.toml line 2 is not valid TOML: unfinished array'],
  ['an unknown key', `${smallest}shared = true`, 'isr.toml line 6: the key memory.shared is unknown'],
  ['an unknown table', `${smallest}[network]\na = 1`, 'isr.toml line 6: the key network is unknown'],
  ['a misspelled table', smallest.replace('[memory]', '[memroy]'), 'the key memory is missing'],
  ['no format', smallest.replace('format = 1', ''), 'isr.toml: the key format is missing'],
  ['a newer format', smallest.replace('1', '2'), 'has format 2, and this isr knows format 1'],
  [
    'an unknown hypervisor',
    smallest.replace('qemu', 'vmware'),
    'line 3: hypervisor.kind must be "qemu" or "command"',
  ],
  ['a table that is none', 'format = 1\nhypervisor = 3', 'isr.toml line 2: hypervisor must be a table'],
  ['no memory size', smallest.replace('size = "256M"', ''), 'line 4: the key memory.size is missing'],
  [
    'an odd memory size',
    smallest.replace('256M', '4097K'),
    'memory.size must be a whole number of mebibytes',
  ],
  ['a word for a size', smallest.replace('256M', 'much'), 'memory.size must be a size such as "256M"'],
  [
    'a file outside',
    `${smallest}file = "../mem"`,
    "line 6: memory.file must be a path inside the VM's directory",
  ],
  ['an absolute file', `${smallest}file = "/mem"`, 'memory.file must be a path inside'],
  ['one file for two things', `${smallest}file = "state"`, 'the memory and the state the same file, "state"'],
  [
    'a timeout of zero',
    `${smallest}[timeout_seconds]\nstart = 0`,
    'line 7: timeout_seconds.start must be more than 0',
  ],
  [
    'an argument that isr sets',
    smallest.replace('kind', 'arguments = ["-nographic", "-daemonize"]\nkind'),
    'line 3: hypervisor.arguments.1 must not be -daemonize: that is set by isr itself',
  ],
  [
    'an argument that a key sets',
    smallest.replace('kind', 'boot_arguments = ["--machine", "q35"]\nkind'),
    'must not be --machine: that is set by hypervisor.machine',
  ],
  [
    'an unknown placeholder',
    smallest.replace('kind', 'arguments = ["-cdrom", "{dir}/x"]\nkind'),
    'hypervisor.arguments.1 has an unknown placeholder',
  ],
];

for (const [what, text, message] of refused) {
  t.test(`refuses ${what}, and says where`, (t) => {
    t.match(refusal(text).message, message);
    t.end();
  });
}

t.test('JSON in an argument is no placeholder', (t) => {
  const json = String.raw`{\"driver\":\"file\",\"filename\":\"{directory}/disk\"}`;
  const config = parseVmConfig(
    smallest.replace('kind', `arguments = ["-blockdev", "${json}"]\nkind`),
    'isr.toml',
  );
  const argument = config.kind === 'qemu' ? (config.arguments[1] ?? '') : '';
  t.equal(
    fillPlaceholders(argument, { directory: '/vm', run: '/run', name: 'x' }),
    '{"driver":"file","filename":"/vm/disk"}',
  );
  t.end();
});

t.test('placeholders are replaced as they are, whatever the values look like', (t) => {
  const value = fc.string();
  fc.assert(
    fc.property(value, value, value, (directory, run, name) => {
      const filled = fillPlaceholders('<{directory}|{run}|{name}|{name}>', { directory, run, name });
      return filled === `<${directory}|${run}|${name}|${name}>`;
    }),
  );
  t.end();
});

t.test('any text is either a configuration or refused with a sentence', (t) => {
  const line = fc.oneof(
    fc.constantFrom(...smallest.split('\n')),
    fc.constantFrom(
      '[state]',
      'file = "a"',
      'share = 1',
      'kind = "command"',
      'start = [1]',
      'x.y = 2',
      '[[memory]]',
    ),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
      try {
        parseVmConfig(lines.join('\n'), 'isr.toml');
        return true;
      } catch (error) {
        return error instanceof InvalidInput && /^isr\.toml.*\.$/s.test(error.message);
      }
    }),
  );
  t.end();
});
