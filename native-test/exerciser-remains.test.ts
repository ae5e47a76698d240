import t from 'tap';
import { FileModel } from './exerciser/file-model.js';
import { Remains } from './exerciser/remains.js';

const pageBytes = 4096;

/** A file of zeros, of which a mapping has changed a page that was not written back. */
function changedByMapping(): { readonly model: FileModel; readonly remains: Remains } {
  const model = new FileModel(4 * pageBytes);
  const remains = new Remains(model);
  model.write(4 * pageBytes - 1, Buffer.alloc(1));
  remains.doubt(0, pageBytes);
  model.write(0, Buffer.alloc(pageBytes, 7));
  return { model, remains };
}

const zeros = { bytes: Buffer.alloc(4 * pageBytes), sizeBytes: 4 * pageBytes };

t.test('what a mapping changed may be lost, also after space was reserved there', async (t) => {
  const { remains } = changedByMapping();
  t.equal(remains.objection(zeros), undefined);
  remains.begin('whole');
  remains.acknowledge(pageBytes - 100, 0);
  t.equal(remains.objection(zeros), undefined);
});

t.test(
  'what was written over it may not, and the objection names the first byte that is wrong',
  async (t) => {
    const { model, remains } = changedByMapping();
    remains.begin('pages');
    model.write(pageBytes - 100, Buffer.alloc(50, 8));
    remains.acknowledge(pageBytes - 100, 50);
    t.match(remains.objection(zeros), { offsetBytes: pageBytes - 100 });
  },
);
