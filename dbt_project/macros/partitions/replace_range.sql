{#
    The incremental strategy `replace_range`: the days of the run are deleted, then inserted, in one transaction.

    Deleting by the keys of the new rows (`delete+insert`) would keep the rows of a day that has become smaller or
    empty. Without a range all days are replaced.
#}
{% macro get_incremental_replace_range_sql(arguments) %}
    {%- set field = partition_field(model) -%}
    {%- if not field -%}
        {%- do exceptions.raise_compiler_error('replace_range needs config.meta.dataops.partition_field') -%}
    {%- endif -%}
    {%- do return(adapter.dispatch('replace_range_sql')(
        arguments['target_relation'], arguments['temp_relation'], arguments['dest_columns'], field
    )) -%}
{% endmacro %}

{# dbt-duckdb runs the two statements between BEGIN and COMMIT. #}
{% macro duckdb__replace_range_sql(target, source, columns, field) %}
    {%- set names = get_quoted_csv(columns | map(attribute='name')) %}
    delete from {{ target }}
    where {{ in_partition_range(field) }};

    insert into {{ target }} ({{ names }})
    select {{ names }}
    from {{ source }}
{% endmacro %}

{# One MERGE that matches nothing: it deletes the range and inserts the new rows atomically. #}
{% macro bigquery__replace_range_sql(target, source, columns, field) %}
    {{ get_insert_overwrite_merge_sql(
        target,
        '(select * from ' ~ source ~ ')',
        columns,
        [in_partition_range('DBT_INTERNAL_DEST.' ~ field)]
    ) }}
{% endmacro %}
