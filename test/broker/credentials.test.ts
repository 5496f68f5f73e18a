// Clients that the proxy lets in by its own credentials, and logs in at real brokers.
import { readFile } from 'node:fs/promises';
import { type ChannelModel, connect, credentials as sasl } from 'amqplib';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type CertificateAndKey, makeCa, makeServingCertificate } from '../../certs/certificates.ts';
import { queueDeclare } from '../support/amqp-frames.ts';
import { type Broker, runClient, startBroker } from '../support/broker.ts';
import { certificateOf } from '../support/client-certificate.ts';
import { CredentialsFolder } from '../support/credentials.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { programOf } from '../support/foreign-clients.ts';
import { startTestProxy, type TestProxy } from '../support/peers.ts';
import { RawClient, type RawOptions } from '../support/raw-client.ts';
import { secretsIn } from '../support/secrets.ts';

/** RabbitMQ takes passwords of UTF-8. */
const BROKERS_PASSWORD = 'of növa: \u{1f511}';
const ALL = { configure: '.*', write: '.*', read: '.*' };

await describeBrokers(
  ['3.10', '4.3'],
  (version) => {
    let broker: Broker;
    let files: CredentialsFolder;
    let ca: CertificateAndKey;
    let paths: Record<'ca' | 'cert' | 'key' | 'credentials', string>;
    let cinder: CertificateAndKey;

    beforeAll(async () => {
      broker = await startBroker(version);
      for (const [user, password] of [
        ['nova-broker', BROKERS_PASSWORD],
        ['cinder-broker', 'cinder-9932'],
        ['glance', 'glance-0815'],
      ] as const) {
        await broker.management.setUser(user, password);
        await broker.management.permit(user, ALL);
      }
      files = await CredentialsFolder.make();
      ca = await makeCa({ commonName: 'ca', days: 1 });
      const server = await makeServingCertificate({
        ca,
        dnsNames: ['localhost'],
        ips: ['127.0.0.1'],
        days: 1,
      });
      cinder = await certificateOf(ca, ['x'], [{ type: 'url', value: 'spiffe://openstack/cinder' }]);
      paths = {
        ca: await files.file(ca.cert),
        cert: await files.file(server.cert),
        key: await files.file(server.key),
        credentials: await files.write(
          { user: 'nova', password: 'geheim-4711', broker: ['nova-broker', BROKERS_PASSWORD] },
          { user: 'wrong', password: 'geheim-4711', broker: ['nova-broker', 'not so'] },
          { user: 'glance', password: 'glance-0815' },
          {
            user: 'cinder',
            certificate: { uri: 'spiffe://openstack/*' },
            broker: ['cinder-broker', 'cinder-9932'],
          },
        ),
      };
    });
    afterAll(async () => {
      await broker?.stop();
      await files?.[Symbol.asyncDispose]();
    });

    describe.each(['transparent', 'pool'])('in mode %s', (mode) => {
      let proxy: TestProxy;
      let audit: string;

      beforeAll(async () => {
        proxy = await startTestProxy({
          backend: `127.0.0.1:${broker.port}`,
          mode,
          listen: ['amqps://127.0.0.1:0'],
          tlsCert: paths.cert,
          tlsKey: paths.key,
          tlsCa: paths.ca,
          tlsClientAuth: 'request',
          credentials: paths.credentials,
          auditLog: (audit = await files.file('')),
        });
      });
      afterAll(() => proxy?.[Symbol.asyncDispose]());

      const trust = () => ({ host: '127.0.0.1', ca: ca.cert, servername: 'localhost' });

      /** The users with connections at the broker. */
      async function users(): Promise<string[]> {
        const listed = await broker.ctl('-q', 'list_connections', 'user', 'auth_mechanism');
        const lines = listed.trim().split('\n');
        return [...new Set(lines)].filter((line) => line !== 'user\tauth_mechanism').sort();
      }

      it('amqplib logs in by PLAIN, by AMQPLAIN and by its certificate, and its declares are rewritten', async () => {
        const logins = [
          { credentials: sasl.plain('nova', 'geheim-4711') },
          { credentials: sasl.amqplain('nova', 'geheim-4711') },
          { credentials: sasl.plain('glance', 'glance-0815') },
          { credentials: sasl.amqplain('glance', 'glance-0815') },
          { credentials: sasl.external(), cert: cinder.cert, key: cinder.key },
        ];
        const models: ChannelModel[] = [];
        onTestFinished(async () => {
          for (const model of models) await model.close();
        });
        for (const [at, login] of logins.entries()) {
          const model = await connect(`amqps://127.0.0.1:${proxy.port}/`, { ...trust(), ...login });
          models.push(model);
          const channel = await model.createConfirmChannel();
          const { queue } = await channel.assertQueue(`login ${at} ${mode}`, { durable: false });
          channel.sendToQueue(queue, Buffer.from('it is me'));
          await channel.waitForConfirms();
          const message = await channel.get(queue, { noAck: true });
          expect(message === false ? '' : message.content.toString()).toBe('it is me');
          expect(await broker.management.queue(queue)).toMatchObject({ type: 'quorum', durable: true });
        }
        expect(await users()).toEqual([
          'cinder-broker\tPLAIN',
          'glance\tAMQPLAIN',
          'glance\tPLAIN',
          'nova-broker\tPLAIN',
        ]);
      });

      it('pika logs in by its certificate, and by a password', async () => {
        const pika = async (...login: string[]) =>
          runClient('pika', programOf('pika_login'), [String(proxy.port), ca.cert, ...login]);
        expect(await pika(cinder.cert, cinder.key)).toBe('it is me');
        expect(await pika('nova', 'geheim-4711')).toBe('it is me');
        const refused =
          "Login was refused using authentication mechanism PLAIN. For details see the proxy's log.";
        expect(await pika('nova', 'geheim-4712')).toContain(`ProbableAuthenticationError`);
        expect(await pika('nova-broker', 'cinder-9932')).toContain(refused);
      });

      it('a login that the broker refuses gets the broker’s own answer', async () => {
        const heard = async (options: RawOptions): Promise<string> =>
          RawClient.connect(proxy.port, { tls: trust(), ...options }).then(
            () => 'let in',
            (error: Error) => error.message,
          );
        expect(await heard({ user: 'wrong', password: 'geheim-4711' })).toBe(
          'connection.close 403 ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile. (0.0)',
        );
        const nova = { user: 'nova', password: 'geheim-4711' };
        expect(await heard({ ...nova, virtualHost: 'no-such' })).toContain('530 NOT_ALLOWED');
      });

      it('what happens to a client goes by its user at the broker', async () => {
        await broker.management.setUser('cinder-broker', 'cinder-9932');
        await broker.management.permit('cinder-broker', { ...ALL, configure: '^$' });
        const tls = { ...trust(), cert: cinder.cert, key: cinder.key };
        const response = Buffer.alloc(0);
        await using client = await RawClient.connect(proxy.port, {
          tls,
          sasl: { mechanism: 'EXTERNAL', response },
        });
        await client.channels(1);
        expect(await client.ask(queueDeclare({ name: 'not mine', flags: 2 }))).toMatch(
          /^channel\.close 403 ACCESS_REFUSED - .*refused for user 'cinder-broker'/,
        );
        await broker.management.permit('cinder-broker', ALL);
      });

      it('no password and no hash of one is in what the proxy tells', async () => {
        const { clients } = JSON.parse(await readFile(paths.credentials, 'utf8')) as {
          clients: { password?: string }[];
        };
        const secrets = {
          'of nova': 'geheim-4711',
          'of nova, wrong': 'geheim-4712',
          'of glance': 'glance-0815',
          'of nova at the broker': BROKERS_PASSWORD,
          'of cinder at the broker': 'cinder-9932',
          ...Object.fromEntries(
            clients.flatMap(({ password }, at) => (password === undefined ? [] : [[`hash ${at}`, password]])),
          ),
        };
        const told = [await readFile(audit, 'utf8'), ...proxy.log().map((line) => JSON.stringify(line))];
        for (const path of ['/metrics', '/clients', '/stats', '/connections', '/config/effective']) {
          const response = await fetch(`http://127.0.0.1:${proxy.proxy.adminAddress.port}${path}`);
          expect(response.status).toBe(200);
          told.push(await response.text());
        }
        const text = told.join('\n');
        for (const known of ['LOGIN_REFUSED', '"user":"nova","brokerUser":"nova-broker"', '--credentials'])
          expect(text).toContain(known);
        expect(secretsIn(text, secrets)).toEqual([]);
      });
    });
  },
  ['pika'],
);
