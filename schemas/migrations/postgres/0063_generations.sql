-- Copies of read models are made, indexed and dropped by the projector, which owns none of the tables: by functions of
-- the owner that do just this, and only with tables the projector may write to.
SELECT tidings_isolate('parked');
GRANT SELECT ON checkpoints TO tidings_query;
GRANT SELECT, INSERT, UPDATE, DELETE ON checkpoints TO tidings_projector;

CREATE FUNCTION tidings_copy_check(base TEXT, copy TEXT) RETURNS VOID LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF copy !~ ('^' || base || '_g[1-9][0-9]*$') OR NOT has_table_privilege('tidings_projector', base, 'INSERT') THEN
        RAISE EXCEPTION 'the table % is no copy of a read model %', copy, base USING ERRCODE = '42501';
    END IF;
END;
$$;

-- Makes an empty copy; `keyed`: with its primary key, which rows that are changed while it is built need.
CREATE FUNCTION tidings_copy_make(base TEXT, copy TEXT, keyed BOOLEAN) RETURNS VOID
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM tidings_copy_check(base, copy);
    EXECUTE format('CREATE TABLE IF NOT EXISTS %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', copy, base);
    -- Whatever default privileges say: no query sees it before it is protected.
    EXECUTE format('REVOKE ALL ON %I FROM tidings_query', copy);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO tidings_projector', copy);
    IF keyed THEN
        PERFORM tidings_copy_indexes(base, copy, TRUE);
    END IF;
END;
$$;

-- Gives a copy the indexes of its base, or only the primary key.
CREATE FUNCTION tidings_copy_indexes(base TEXT, copy TEXT, primary_only BOOLEAN) RETURNS VOID
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET maintenance_work_mem TO '128MB' AS $$
DECLARE
    known RECORD;
    new_name TEXT;
BEGIN
    PERFORM tidings_copy_check(base, copy);
    FOR known IN
        SELECT i.indexrelid AS id, i.indisprimary AS is_primary, c.relname AS name
        FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = to_regclass(base) ORDER BY i.indisprimary DESC, c.relname
    LOOP
        new_name := CASE WHEN known.name LIKE base || '\_%' THEN copy || substr(known.name, length(base) + 1)
                    ELSE copy || '_' || known.name END;
        IF to_regclass(new_name) IS NOT NULL THEN
            CONTINUE;
        END IF;
        IF known.is_primary THEN
            EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I ', copy, new_name)
                || (SELECT pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint WHERE conindid = known.id);
        ELSIF NOT primary_only THEN
            EXECUTE regexp_replace(
                pg_get_indexdef(known.id), '^CREATE (UNIQUE )?INDEX \S+ ON \S+',
                format('CREATE \1INDEX %I ON %I', new_name, copy)
            );
        END IF;
    END LOOP;
END;
$$;

-- Makes a copy ready for queries: all indexes, statistics, and isolation as its base has it.
CREATE FUNCTION tidings_copy_finish(base TEXT, copy TEXT) RETURNS VOID
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM tidings_copy_check(base, copy);
    PERFORM tidings_copy_indexes(base, copy, FALSE);
    EXECUTE format('ANALYZE %I', copy);
    IF (SELECT relrowsecurity FROM pg_catalog.pg_class WHERE oid = to_regclass(base))
        AND NOT (SELECT relrowsecurity FROM pg_catalog.pg_class WHERE oid = to_regclass(copy)) THEN
        PERFORM tidings_isolate(copy);
    END IF;
END;
$$;

-- Drops a copy; of the base itself only the rows, since later copies are made like it.
CREATE FUNCTION tidings_copy_drop(base TEXT, copy TEXT) RETURNS VOID
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF base = copy AND has_table_privilege('tidings_projector', base, 'INSERT') THEN
        EXECUTE format('TRUNCATE %I', base);
    ELSE
        PERFORM tidings_copy_check(base, copy);
        EXECUTE format('DROP TABLE IF EXISTS %I', copy);
    END IF;
END;
$$;

REVOKE ALL ON FUNCTION tidings_isolate(TEXT), tidings_copy_check(TEXT, TEXT), tidings_copy_make(TEXT, TEXT, BOOLEAN),
    tidings_copy_indexes(TEXT, TEXT, BOOLEAN), tidings_copy_finish(TEXT, TEXT), tidings_copy_drop(TEXT, TEXT)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tidings_copy_make(TEXT, TEXT, BOOLEAN), tidings_copy_finish(TEXT, TEXT),
    tidings_copy_drop(TEXT, TEXT) TO tidings_projector;
