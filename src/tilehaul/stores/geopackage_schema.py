"""The tables of a GeoPackage (OGC 12-128r18, 1.3.1) that hold web-mercator tiles."""

from tilehaul.grid.mercator import HALF_WORLD_M
from tilehaul.stores.tile_table import quoted

# "GPKG", and 1.3.0 (requirement 2).
APPLICATION_ID = 0x47504B47
USER_VERSION = 10300

# The name of our table of tiles, unless another is asked for, and of the table of our own rows.
TILES = "tiles"
METADATA = "tilehaul_metadata"
SRS_ID = 3857

_GEOGCS = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],'
    'AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
    'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],'
)
_WGS84 = f'{_GEOGCS}AXIS["Latitude",NORTH],AXIS["Longitude",EAST],AUTHORITY["EPSG","4326"]]'
_WEB_MERCATOR = (
    f'PROJCS["WGS 84 / Pseudo-Mercator",{_GEOGCS}AUTHORITY["EPSG","4326"]],'
    'PROJECTION["Mercator_1SP"],PARAMETER["central_meridian",0],PARAMETER["scale_factor",1],'
    'PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1,AUTHORITY["EPSG","9001"]],'
    'AXIS["Easting",EAST],AXIS["Northing",NORTH],'
    'EXTENSION["PROJ4","+proj=merc +a=6378137 +b=6378137 +lat_ts=0 +lon_0=0 +x_0=0 +y_0=0 +k=1 +units=m '
    '+nadgrids=@null +wktext +no_defs"],AUTHORITY["EPSG","3857"]]'
)


def schema(table: str) -> str:
    """The tables of a file with the tile table `table`, as Annex C of the standard defines them."""
    name = "'" + table.replace("'", "''") + "'"
    return f"""
CREATE TABLE gpkg_spatial_ref_sys (
  srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY, organization TEXT NOT NULL,
  organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT
);
CREATE TABLE gpkg_contents (
  table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
  description TEXT DEFAULT '',
  last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
  CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id)
);
CREATE TABLE gpkg_tile_matrix_set (
  table_name TEXT NOT NULL PRIMARY KEY, srs_id INTEGER NOT NULL,
  min_x DOUBLE NOT NULL, min_y DOUBLE NOT NULL, max_x DOUBLE NOT NULL, max_y DOUBLE NOT NULL,
  CONSTRAINT fk_gtms_table_name FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
  CONSTRAINT fk_gtms_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id)
);
CREATE TABLE gpkg_tile_matrix (
  table_name TEXT NOT NULL, zoom_level INTEGER NOT NULL,
  matrix_width INTEGER NOT NULL, matrix_height INTEGER NOT NULL,
  tile_width INTEGER NOT NULL, tile_height INTEGER NOT NULL,
  pixel_x_size DOUBLE NOT NULL, pixel_y_size DOUBLE NOT NULL,
  CONSTRAINT pk_ttm PRIMARY KEY (table_name, zoom_level),
  CONSTRAINT fk_tmm_table_name FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name)
);
CREATE TABLE {quoted(table)} (
  id INTEGER PRIMARY KEY AUTOINCREMENT, zoom_level INTEGER NOT NULL, tile_column INTEGER NOT NULL,
  tile_row INTEGER NOT NULL, tile_data BLOB NOT NULL,
  UNIQUE (zoom_level, tile_column, tile_row)
);
INSERT INTO gpkg_spatial_ref_sys VALUES
  ('Undefined cartesian SRS', -1, 'NONE', -1, 'undefined', 'undefined cartesian coordinates'),
  ('Undefined geographic SRS', 0, 'NONE', 0, 'undefined', 'undefined geographic coordinates'),
  ('WGS 84 geodetic', 4326, 'EPSG', 4326, '{_WGS84}', 'longitude and latitude in degrees'),
  ('WGS 84 / Pseudo-Mercator', {SRS_ID}, 'EPSG', 3857, '{_WEB_MERCATOR}', 'spherical Mercator in metres');
INSERT INTO gpkg_contents (table_name, data_type, srs_id) VALUES ({name}, 'tiles', {SRS_ID});
INSERT INTO gpkg_tile_matrix_set VALUES
  ({name}, {SRS_ID}, -{HALF_WORLD_M}, -{HALF_WORLD_M}, {HALF_WORLD_M}, {HALF_WORLD_M});
"""  # noqa: S608  constants


EXTENSIONS = """
CREATE TABLE IF NOT EXISTS gpkg_extensions (
  table_name TEXT, column_name TEXT, extension_name TEXT NOT NULL, definition TEXT NOT NULL,
  scope TEXT NOT NULL, CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name)
);
"""
# A NULL in the constraint makes rows distinct, so what is there is looked for.
REGISTER = """
INSERT INTO gpkg_extensions SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (
  SELECT 1 FROM gpkg_extensions WHERE table_name = ?1 AND column_name IS ?2 AND extension_name = ?3
)
"""
# Table, column, name, definition, scope; a reader may ignore what is `write-only` (2.3.2.1.1).
OWN_TABLE = (
    METADATA,
    None,
    "tilehaul_job_record",
    (
        "Tables tilehaul_*: names and values that tilehaul keeps of a tile set and of the jobs that wrote "
        "it, and while tiles are missing what became of them. Readers may ignore them."
    ),
    "write-only",
)
WEBP_NAME = "gpkg_webp"
WEBP_DEFINITION = "http://www.geopackage.org/spec/#extension_tiles_webp"
WEBP_SCOPE = "read-write"
