{#
    Overrides dbt's own: a generic test on a partitioned model reads the days of the run only, beside its `where`.
    A test that reads a second relation limits that one itself, with in_partition_range.
#}
{% macro get_where_subquery(relation) %}
    {%- set predicates = [] -%}
    {%- if config.get('where') -%}
        {%- do predicates.append('(' ~ config.get('where') ~ ')') -%}
    {%- endif -%}
    {%- if execute -%}
        {%- set field = partition_field(graph.nodes.get(model.attached_node, {})) -%}
        {%- if field and partition_range() -%}
            {%- do predicates.append(in_partition_range(field)) -%}
        {%- endif -%}
    {%- endif -%}
    {%- if not predicates -%}
        {%- do return(relation) -%}
    {%- endif -%}
    {%- do return('(select * from ' ~ relation ~ ' where ' ~ predicates | join(' and ') ~ ') dbt_subquery') -%}
{% endmacro %}
