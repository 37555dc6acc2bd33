// An identity provider for a bank: `oidc-provider`, with one user who is signed in without prompts.
//
//     node provider.mjs MODULES PORT FORMAT [KID]
//
// MODULES  the folder of `install.sh`
// PORT     0 for any free port; it is printed once the provider listens
// FORMAT   of access tokens: jwt or opaque
// KID      the id of the signing key; default: its thumbprint
//
// Each start creates a new key. The program ends when its standard input is closed.

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, port, format, kid] = process.argv.slice(2);
const file = join(modules, 'node_modules', 'oidc-provider', 'lib', 'index.js');
const { Provider } = await import(pathToFileURL(file));

process.stdin.on('end', () => process.exit(0)).resume();
// The starting program reads only the port.
process.stdout.on('error', () => {});

const API = 'https://px.bank.example';
const SCOPES = 'accounts identity auth transactions';
const USER = 'ann';

function configuration() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const key = { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid };
  return {
    jwks: { keys: [key] },
    clients: [
      {
        client_id: 'plaid',
        client_secret: 'the-secret-of-plaid',
        redirect_uris: ['https://plaid.example/oauth.html'],
        grant_types: ['authorization_code', 'refresh_token'],
      },
      {
        client_id: 'bank',
        client_secret: 'the-secret-of-the-bank',
        redirect_uris: [],
        grant_types: [],
        response_types: [],
      },
    ],
    cookies: { keys: ['a-key-for-cookies'] },
    scopes: ['openid', 'offline_access'],
    features: {
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => API,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: SCOPES,
          audience: API,
          accessTokenFormat: format,
          accessTokenTTL: 300,
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: (_, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: true,
    // Access tokens also contain the user's number at the bank.
    extraTokenClaims: () => ({ px_accounts: ['checking'] }),
  };
}

// Signs the user in and consents, without the pages of a real bank.
async function interact(provider, request, response) {
  const details = await provider.interactionDetails(request, response);
  if (details.prompt.name === 'login') {
    const result = { login: { accountId: USER } };
    return provider.interactionFinished(request, response, result);
  }
  const grant = new provider.Grant({ accountId: USER, clientId: details.params.client_id });
  grant.addOIDCScope('openid offline_access');
  grant.addResourceScope(API, SCOPES);
  const result = { consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result, {
    mergeWithLastSubmission: true,
  });
}

let handle;
const server = createServer((request, response) => handle(request, response));
server.listen(Number(port), '127.0.0.1', () => {
  const chosen = server.address().port;
  const provider = new Provider(`http://127.0.0.1:${chosen}`, configuration());
  const callback = provider.callback();
  handle = (request, response) => {
    if (!request.url.startsWith('/interaction/')) {
      return callback(request, response);
    }
    interact(provider, request, response).catch((error) => {
      response.writeHead(500).end(String(error));
    });
  };
  console.log(chosen);
});
