{#
    dbt-bigquery has a closed list of strategies: these two of its macros are overridden to let `replace_range` in.
    A contract forbids `on_schema_change: ignore`, hence the temporary relation always exists by then.
#}
{% macro dbt_bigquery_validate_get_incremental_strategy(config) %}
    {%- if config.get('incremental_strategy') == 'replace_range' -%}
        {%- do return('replace_range') -%}
    {%- endif -%}
    {%- do return(dbt.dbt_bigquery_validate_get_incremental_strategy(config)) -%}
{% endmacro %}

{% macro bq_generate_incremental_build_sql(
    strategy, tmp_relation, target_relation, sql, unique_key, partition_by, partitions, dest_columns,
    tmp_relation_exists, copy_partitions, incremental_predicates
) %}
    {%- if strategy == 'replace_range' -%}
        {%- do return(get_incremental_replace_range_sql({
            'target_relation': target_relation, 'temp_relation': tmp_relation, 'dest_columns': dest_columns
        })) -%}
    {%- endif -%}
    {%- do return(dbt.bq_generate_incremental_build_sql(
        strategy, tmp_relation, target_relation, sql, unique_key, partition_by, partitions, dest_columns,
        tmp_relation_exists, copy_partitions, incremental_predicates
    )) -%}
{% endmacro %}
