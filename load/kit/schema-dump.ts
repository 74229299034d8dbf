/**
 * The schema of a migrated database as SQL text, from the catalogue: what migrations/schema.sql holds and a review reads.
 * Ordered by name, so that a diff shows what changed and nothing else. Leaves out the migration tool's own table.
 */
import type { Pool } from 'pg'

export async function dumpSchema(pool: Pool): Promise<string> {
  const lines = async (sql: string) => (await pool.query<{ line: string }>(sql)).rows.map(row => row.line)
  const parts = await Promise.all([
    lines(`select format('create sequence %I;', c.relname) as line from pg_class c
            where c.relnamespace = 'public'::regnamespace and c.relkind = 'S'
              and not exists (select 1 from pg_depend d where d.objid = c.oid and d.deptype in ('a', 'i')) order by 1`),
    lines(`
      select format(E'create table %I (\\n%s\\n)%s;', c.relname,
               string_agg(format('  %I %s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
                 case when a.attnotnull then ' not null' else '' end,
                 case when d.adbin is null then '' else ' default ' || pg_get_expr(d.adbin, d.adrelid) end),
                 E',\\n' order by a.attnum),
               coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', '')) as line
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
       where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname <> 'migration'
       group by c.oid, c.relname, c.reloptions order by c.relname`),
    lines(`select format('alter table %I add constraint %I %s;', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid)) as line
             from pg_constraint c join pg_class t on t.oid = c.conrelid
            where c.connamespace = 'public'::regnamespace and t.relname <> 'migration' and c.contype in ('p', 'u', 'c', 'f')
            order by t.relname, c.contype desc, c.conname`),
    lines(`select pg_get_indexdef(i.indexrelid) || ';' as line
             from pg_index i join pg_class c on c.oid = i.indexrelid
            where c.relnamespace = 'public'::regnamespace
              and not exists (select 1 from pg_constraint k where k.conindid = i.indexrelid) order by c.relname`),
    lines(`select format(E'create view %I as\\n%s', c.relname, pg_get_viewdef(c.oid)) as line
             from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'v' order by 1`),
    lines(`select rtrim(pg_get_functiondef(p.oid)) || ';' as line
             from pg_proc p where p.pronamespace = 'public'::regnamespace order by p.proname`),
    lines(
      `select pg_get_triggerdef(t.oid) || ';' as line from pg_trigger t where not t.tgisinternal order by t.tgname`,
    ),
    lines(`
      select format('grant %s on %I to %I;', string_agg(lower(g.privilege_type), ', ' order by g.privilege_type), c.relname, r.rolname) as line
        from pg_class c cross join lateral aclexplode(c.relacl) g join pg_roles r on r.oid = g.grantee
       where c.relnamespace = 'public'::regnamespace and r.rolname in ('parley_engine', 'parley_gateway')
       group by c.relname, r.rolname order by r.rolname, c.relname`),
  ])
  return `${parts.map(part => part.join('\n')).join('\n\n')}\n`.replaceAll('public.', '')
}
