import { exerciseShortly } from './exerciser/short-form.js';

exerciseShortly('kernel');
