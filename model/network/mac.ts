import { Type } from 'typebox';
import { pattern } from '../forms.ts';

export const Mac = Type.String({
  pattern: pattern(
    '^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$',
    'must be the MAC address of one interface in lower case, such as 02:00:5e:10:00:01',
  ),
});
