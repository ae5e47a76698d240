export { Trickle, type TrickleOptions, type TrickleStatus } from './trickle.js';
