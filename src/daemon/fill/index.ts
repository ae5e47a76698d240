export { Fill, type FillOptions, type FillParts, type FillStatus } from './fill.js';
