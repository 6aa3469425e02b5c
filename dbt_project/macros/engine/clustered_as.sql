{#
    The value of `cluster_by` of a model that mirrors a contract's table: as the contract says, or none.

    The var is the same in every run, hence it may be read when dbt parses.
#}
{% macro clustered_as(table) %}
    {%- do return(var('contract_clustering').get(table)) -%}
{% endmacro %}
