/** Writes prisma/schema.prisma from the model, so that a field is named once. */
import { readFileSync, writeFileSync } from 'node:fs';
import { type Column, columnsOf, orderableOf } from '../model/columns.ts';
import type { Kind } from '../model/kind.ts';
import { allKinds } from '../model/kinds.ts';
import { pascal } from '../model/schemas.ts';

const types: Record<Column['type'], string> = {
  uuid: 'String{} @db.Uuid',
  'uuid[]': 'String[] @db.Uuid',
  text: 'String{}',
  inet: 'String{} @db.Inet',
  integer: 'Int{}',
  bigint: 'BigInt{}',
  double: 'Float{}',
  boolean: 'Boolean{}',
  timestamptz: 'DateTime{} @db.Timestamptz(6)',
  jsonb: 'Json{}',
};

function defaultOf(column: Column): string {
  if (column.name === 'createdAt' || column.name === 'updatedAt') return ' @default(now())';
  if (column.default === undefined) return '';
  if (column.type === 'uuid[]') return ' @default([])';
  if (column.type === 'jsonb') return ` @default(${JSON.stringify(JSON.stringify(column.default))})`;
  return ` @default(${JSON.stringify(column.default)})`;
}

function field(column: Column): string {
  if (column.name === 'id') return '  id String @id @db.Uuid';
  const type = types[column.type].replace('{}', column.nullable ? '?' : '');
  return `  ${column.name} ${type}${defaultOf(column)}`;
}

function indexes(kind: Kind, columns: Column[]): string[] {
  const scoped = columns.some((column) => column.name === 'projectId');
  const ordered = orderableOf(kind).flatMap((key) => [`[${key}, id]`, ...(scoped ? [`[projectId, ${key}, id]`] : [])]);
  const references = columns
    .filter(
      (column) =>
        column.ref &&
        column.type === 'uuid' &&
        column.name !== 'projectId' &&
        !/^(actor|currentOperation)/.test(column.name),
    )
    .map((column) => `[${column.name}]`);
  const extra: Record<string, string[]> = {
    operation: ['[targetId, createdAt]', '[state]'],
    event: ['[resourceId]'],
    auditEntry: ['[resourceId]', '[operationId]'],
    roleBinding: ['[subjectId]', '[targetId]'],
  };
  return [...ordered, ...references, ...(extra[kind.name] ?? [])].map((index) => `  @@index(${index})`);
}

function model(kind: Kind): string {
  const columns = columnsOf(kind);
  return [
    `/// ${kind.summary}`,
    `model ${pascal(kind.name)} {`,
    ...columns.map(field),
    '',
    ...indexes(kind, columns),
    `  @@map("${kind.name}")`,
    '}',
  ].join('\n');
}

const head = `// Made from model/ by \`npm run generate\`; change the model, not this file.

generator client {
  provider            = "prisma-client"
  output              = "../generated/prisma"
  moduleFormat        = "esm"
  runtime             = "nodejs"
  importFileExtension = "ts"
}

datasource db {
  provider = "postgresql"
}
`;

const tables = readFileSync(new URL('../prisma/tables.prisma', import.meta.url), 'utf8');
writeFileSync(new URL('../prisma/schema.prisma', import.meta.url), [head, ...allKinds.map(model), tables].join('\n\n'));
