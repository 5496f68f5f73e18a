import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { versionOfImage } from '../../../common/image.ts';
import { type ImageSources, imageFor } from '../../../reconciler/image.ts';

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;
const NOTHING: ImageSources = {
  version: '4.2',
  annotation: undefined,
  clusterImage: undefined,
  specImages: [undefined, undefined],
};

function chosen(sources: Partial<ImageSources>): string {
  const choice = imageFor({ ...NOTHING, ...sources });
  return choice.ok ? choice.image : `refused: ${choice.why}`;
}

describe('the image of a version', () => {
  it.each<[string, Partial<ImageSources>, string]>([
    [
      'the tag’s version exchanged',
      { clusterImage: 'rabbitmq:3.13.7-management' },
      'rabbitmq:4.2-management',
    ],
    [
      'all of a suffix',
      { clusterImage: 'rabbitmq:3.12-management-alpine' },
      'rabbitmq:4.2-management-alpine',
    ],
    [
      'a registry with a port',
      { clusterImage: 'registry.example:5000/a/rabbitmq:3.13' },
      'registry.example:5000/a/rabbitmq:4.2',
    ],
    ['a patch', { clusterImage: 'rabbitmq:4.2-management', version: '4.2.1' }, 'rabbitmq:4.2.1-management'],
    ['the letter in front', { clusterImage: 'rabbitmq:v3.13.7' }, 'rabbitmq:v4.2'],
    [
      'no release candidate any more',
      { clusterImage: 'rabbitmq:4.0.0-rc.2-management' },
      'rabbitmq:4.2-management',
    ],
    ['none: the operator’s own', {}, 'rabbitmq:4.2-management'],
    ['one that has it already', { clusterImage: 'rabbitmq:4.2.3@' + DIGEST }, 'rabbitmq:4.2.3@' + DIGEST],
    [
      'the annotation before all',
      { annotation: 'mine:1', specImages: ['rabbitmq:4.2'], clusterImage: 'rabbitmq:4.2' },
      'mine:1',
    ],
    ['the annotation by digest', { annotation: `rabbitmq@${DIGEST}` }, `rabbitmq@${DIGEST}`],
    [
      'the spec’s before the cluster’s',
      { specImages: ['a/rabbitmq:4.2.2', 'b/rabbitmq:4.2'], clusterImage: 'rabbitmq:3.13' },
      'a/rabbitmq:4.2.2',
    ],
    [
      'the spec’s other one where the first does not fit',
      { specImages: ['a/rabbitmq:3.13', 'b/rabbitmq:4.2'], clusterImage: 'rabbitmq:3.13' },
      'b/rabbitmq:4.2',
    ],
    [
      'not the spec’s of another patch',
      { version: '4.2.1', specImages: ['a/rabbitmq:4.2.2'], clusterImage: 'rabbitmq:4.2.0' },
      'rabbitmq:4.2.1',
    ],
  ])('%s', (_name, sources, image) => {
    expect(chosen(sources)).toBe(image);
  });

  const wayOut = /name the image by the annotation quorumbridge\.io\/target-image of the RabbitMq$/;
  it.each<[string, Partial<ImageSources>, RegExp]>([
    ['a digest', { clusterImage: `rabbitmq:3.13@${DIGEST}` }, wayOut],
    ['a tag without a version', { clusterImage: 'rabbitmq:latest' }, wayOut],
    ['no tag', { clusterImage: 'localhost:5000/rabbitmq' }, wayOut],
    ['a build', { clusterImage: 'bitnami/rabbitmq:3.13.7-debian-12-r3' }, wayOut],
    ['no image', { clusterImage: 'Rabbit MQ' }, wayOut],
    [
      'an annotation of another version',
      { annotation: 'rabbitmq:4.0-management' },
      /"rabbitmq:4\.0-management", by its tag RabbitMQ 4\.0, and the target is 4\.2: change the one or the other$/,
    ],
    ['an annotation that is no image', { annotation: '' }, /is "", expected \[REGISTRY\/\]NAME/],
    ['a version that is none', { version: '4.2; id' }, /"4\.2; id" is no version/],
  ])('is refused for %s, with the way out', (_name, sources, why) => {
    expect(chosen(sources)).toMatch(/^refused: /);
    expect(chosen(sources)).toMatch(why);
  });

  const number = fc.integer({ min: 0, max: 40 });
  const versions = fc
    .tuple(fc.integer({ min: 3, max: 12 }), number, fc.option(number, { nil: undefined }))
    .map((numbers) => numbers.filter((each) => each !== undefined).join('.'));
  const names = fc.constantFrom('rabbitmq', 'a/b/rabbitmq', 'registry.example:5000/rabbitmq', '[::1]:80/mq');
  const suffixes = fc.constantFrom('', '-management', '-management-alpine', '_el9', '-x.y');

  it('has the version that was asked for, and everything else of the one that runs', () => {
    fc.assert(
      fc.property(names, versions, suffixes, versions, (name, runs, suffix, version) => {
        const image = chosen({ clusterImage: `${name}:${runs}${suffix}`, version });
        // One that is of the version already stays, with its patch.
        const has = versionOfImage(image) ?? '';
        expect(has === version || has.startsWith(`${version}.`)).toBe(true);
        expect(image).toBe(`${name}:${has}${suffix}`);
        // And what came of it is left alone.
        expect(chosen({ clusterImage: image, version })).toBe(image);
      }),
    );
  });

  it('is refused or chosen for whatever texts there are, without an error', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.string(), (annotation, clusterImage, version) => {
        expect(chosen({ annotation, clusterImage, version })).toBeTypeOf('string');
        expect(chosen({ clusterImage, version })).toBeTypeOf('string');
        expect(chosen({ clusterImage })).toBeTypeOf('string');
      }),
    );
  });
});
