import t from 'tap';
import { localDiskContract } from './support/mount-contract.js';

await localDiskContract(t);
