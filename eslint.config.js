import tseslint from 'typescript-eslint';
import eslint from '@eslint/js';

/** The rooms of src/, top layer first: an import may only point down this list. */
const layers = [
  'cli',
  'vm',
  'daemon',
  'fuse',
  'fs',
  'warm',
  'fetch',
  'trace',
  'host',
  'repo',
  'store',
  'resident',
  'system',
  'base',
];

/** One rule a room: rooms above it are closed, rooms below it are entered through their door (index.ts) only. */
const layerRules = layers.map((room, depth) => ({
  files: [`src/${room}/**/*.ts`],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          ...layers.slice(0, depth).map((above) => ({
            regex: `^(\\.\\./)+${above}(/|$)`,
            message: `src/${room} lies below src/${above}: imports point down the layers.`,
          })),
          ...layers.slice(depth + 1).map((below) => ({
            regex: `^(\\.\\./)+${below}/(?!index\\.js$)`,
            message: `Enter src/${below} through its door, ${below}/index.js.`,
          })),
        ],
      },
    ],
  },
}));

export default tseslint.config(
  { ignores: ['build', 'node_modules', '.tap', 'bench/results'] },
  eslint.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unnecessary-condition': ['error', { allowConstantLoopConditions: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
    },
  },
  {
    // tap's assertions return promises that resolve at once; its callbacks are often async without awaiting.
    files: ['test/**/*.ts', 'native-test/**/*.ts'],
    rules: {
      '@typescript-eslint/no-floating-promises': 'off',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    files: ['**/*.js'],
    languageOptions: {
      globals: { process: 'readonly', console: 'readonly', URL: 'readonly', Buffer: 'readonly' },
    },
  },
  {
    // Loads before everything else, and is copied as it is.
    files: ['scripts/programs/loader.js'],
    languageOptions: {
      sourceType: 'commonjs',
      globals: { require: 'readonly', exports: 'readonly', setInterval: 'readonly', module: 'readonly' },
    },
  },
  ...layerRules,
);
