// An OpenID provider for the tests: `oidc-provider` with a few settings. What it is to be comes as one line of JSON on
// the standard input, where it listens goes as one line of JSON to the standard output; it ends when the input does.

import { createServer } from 'node:https';
import { createInterface } from 'node:readline';

import { Provider } from 'oidc-provider';

const lines = createInterface({ input: process.stdin });
const settings = JSON.parse((await lines[Symbol.asyncIterator]().next()).value);
process.stdin.on('end', () => process.exit(0));

const server = createServer({ key: settings.key, cert: settings.certificate });
server.listen(0, settings.host, () => {
  const { port } = server.address();
  const clients = settings.clients.map((client) => ({
    ...client,
    redirect_uris: client.redirect_uris.map((uri) => uri.replace('{port}', port)),
  }));
  const provider = new Provider(`https://${settings.host}:${port}`, {
    clients,
    cookies: { keys: [settings.cookieKey] },
    scopes: ['openid', 'offline_access', ...settings.scopes],
    claims: { email: ['email', 'email_verified'] },
    conformIdTokenClaims: false, // the ID token of a code holds who consented, as others' do
    findAccount: (context, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: id, email_verified: true }),
    }),
    pkce: { required: () => true },
    rotateRefreshToken: true,
    ttl: { AccessToken: settings.accessLife },
    features: {
      deviceFlow: { enabled: true },
      introspection: { enabled: true },
      devInteractions: { enabled: true },
    },
  });
  server.on('request', provider.callback());
  process.stdout.write(`${JSON.stringify({ port })}\n`);
});
