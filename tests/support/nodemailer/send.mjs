// Sends mails by nodemailer. What to send comes as JSON on the standard input: the options of `createTransport`, and
// mails for `sendMail`, which are sent at once. What the server said to each goes to the standard output.

import { text } from 'node:stream/consumers';

import nodemailer from 'nodemailer';

const { transport, mails } = JSON.parse(await text(process.stdin));
const transporter = nodemailer.createTransport(transport);
try {
  const sent = await Promise.all(mails.map((mail) => transporter.sendMail(mail)));
  console.log(JSON.stringify(sent.map(({ response }) => response)));
} finally {
  transporter.close();
}
